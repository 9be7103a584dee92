"""Who may take part: the cluster's secret, and what is made of it."""
