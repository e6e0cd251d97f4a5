"""Any two bottom-up models side by side on the same images."""
