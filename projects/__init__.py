"""Projects built on the package. Not installed; the package never imports them."""
