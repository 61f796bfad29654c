"""What a shipped file costs: latency, load time, memory and size, beside what it is worth."""
