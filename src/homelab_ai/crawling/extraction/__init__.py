"""Pages to their main content.

Imported only inside a host, but for `extracted`: what strangers send is parsed by libraries written in C.
"""
