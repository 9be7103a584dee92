"""What ringcast reaches, beside what this machine and CPython allow at all."""
