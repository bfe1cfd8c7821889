"""What the operating system offers: files, locks, signals, memory that processes share."""
