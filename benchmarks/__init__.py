"""Every figure that this project claims, measured beside what it is compared with. Run by `make bench`."""
