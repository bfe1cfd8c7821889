"""What the tracking server must be told: the journal on disk, and the courier that delivers it."""
