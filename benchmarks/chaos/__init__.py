"""Real processes under real faults, and what their users notice: ``make chaos``."""
