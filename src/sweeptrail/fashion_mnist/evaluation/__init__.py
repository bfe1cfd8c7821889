"""What a trained network sees in pictures."""
