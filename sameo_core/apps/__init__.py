"""For users: prediction and exports, the explorer, the playground; and the evidence on photographs."""
