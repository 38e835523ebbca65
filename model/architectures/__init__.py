"""Public checkpoints: what each family calls its sizes and its tensors."""
