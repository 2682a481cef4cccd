//! Sources: synthetic cameras, folders of pictures, MJPEG over HTTP and from files.
