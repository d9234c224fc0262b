"""HTTP and nothing else: who may enter, what a request must look like, how an answer or an error is written."""
