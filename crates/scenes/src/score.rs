//! placeholder
#[derive(Clone, Copy)]
pub struct ScoredBox;
pub struct Score;
pub struct ClassScore;
pub struct Scorer;
