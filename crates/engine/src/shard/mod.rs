//! What a camera's policy says of a frame before anything is decoded.
