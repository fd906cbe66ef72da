"""How the demo model is trained, scored and exported; what it learns is the corpus's business."""
