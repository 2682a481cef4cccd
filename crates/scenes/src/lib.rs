//! Synthetic camera scenes with known ground truth, and the score of detections against it.
