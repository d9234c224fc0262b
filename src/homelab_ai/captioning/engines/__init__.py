"""Engines, imported only inside model hosts."""
