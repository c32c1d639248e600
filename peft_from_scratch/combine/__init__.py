"""What can be made of several trained changes, or of one, without training again."""
