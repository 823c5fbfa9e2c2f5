"""What gpu_peers.py is made of. Networks and contenders need torch; the record and its report do not."""
