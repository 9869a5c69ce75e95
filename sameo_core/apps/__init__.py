"""What people use: prediction and exports, the explorer, the playground; and the evidence on photographs."""
