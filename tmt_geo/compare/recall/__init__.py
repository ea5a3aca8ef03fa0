"""Models side by side at recall: what was said once is asked for later, and further on than they were trained."""
