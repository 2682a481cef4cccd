//! The practical call: one picture, decoded and answered as a camera's frame would be.

use std::time::Instant;

use bytes::Bytes;
use omma_frame::{Outcome, Payload};

use super::error::ApiError;
use super::{Api, models};

impl Api {
    /// What the model says of a JPEG or PNG picture, as JSON.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn predict(&self, model: &str, picture: Bytes) -> Result<Vec<u8>, ApiError> {
        let shared = self.engine()?;
        let model = models::find(shared, model, "")?;
        if picture.is_empty() {
            return Err(ApiError::invalid("no picture: the body is empty, expected a JPEG or PNG"));
        }
        let ask = |caller| shared.ask(model.number, Payload::Encoded(picture), caller);
        let result = self.answer(shared, Instant::now(), self.limits.timeout, ask).await?;
        if let Outcome::Dropped { reason, detail } = &result.outcome {
            return Err(ApiError::dropped(*reason, detail.as_deref()));
        }
        let mut text = Vec::new();
        (self.encode)(&result, &mut text);
        Ok(text)
    }
}
