"""Networks made smaller: what they are, what they lose, and which of their layers stay float32."""
