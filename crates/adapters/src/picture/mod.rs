//! From payloads to slots of the batch tensor: JPEG and PNG decoding, resizing, colour, normalisation.
