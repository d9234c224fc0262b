"""Pictures to words: the service, the decoding of whatever was sent, and the engines that models run on."""
