"""Which runs a sweep carries out: jobs, one after another, as they are decided upon."""
