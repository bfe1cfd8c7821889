"""One sweep from start to finish."""
