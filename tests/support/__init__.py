"""What several tests share: hosts without a process, engines without a model, and a server in a process of its own."""
