"""How a run goes from one commit to the next: synchronous, asynchronous."""
