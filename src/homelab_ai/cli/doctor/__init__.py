"""`homelab-ai doctor`: looks at the machine, the configuration and the running service, and says what mends a fault.

`command` is what is typed; it collects the `findings` of each subject, one module per subject, and has them printed by
`report`. No subject changes anything, and none leaves this machine unless `--online` says so.
"""
