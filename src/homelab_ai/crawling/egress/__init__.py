"""The guarded way out: a filtering proxy on loopback through which all leaves that is fetched on a user's behalf."""
