"""The arithmetic under the networks: quantized linears and attention."""
