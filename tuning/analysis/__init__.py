"""What a finished search says: parameter importance and good ranges."""
