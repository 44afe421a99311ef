"""What people read: console output, progress, figures and the HTML report."""
