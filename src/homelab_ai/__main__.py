"""`python -m homelab_ai` is `homelab-ai`, wherever the environment's commands are not on the PATH."""

from homelab_ai.cli import main

main()
