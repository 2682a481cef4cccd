//! What the engine's traits are on the outside: sources, picture decoders, model runtimes, sinks.
