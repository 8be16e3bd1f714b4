"""What a magnitude says about a face."""
