"""What several tests share: hosts without a process, engines without a model, a clock, and a server in a process."""
