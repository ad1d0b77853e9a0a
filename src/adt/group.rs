//! Which segments of a message belong together: a patient, a visit and what was merged into them (HL7 v2.5.1 §3.3).
//!
//! Structure ids (MSH-9.3) are not trusted and neither is the order of segments: a message about one patient is one group, whatever stands where.

use std::borrow::Cow;

use smallvec::SmallVec;
use smallvec::smallvec;

use crate::adt::trigger::Shape;
use crate::hl7::message::Message;
use crate::hl7::segment::Segment;

/// What a segment that may stand anywhere is about: the last of these in front of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Anchor {
    /// PID, PD1.
    Person,
    /// PV1, PV2.
    Visit,
    /// PR1.
    Procedure,
    /// IN1, IN2, IN3.
    Insurance,
}

/// The segments that speak of one patient and one visit.
#[derive(Clone, Debug)]
pub(crate) struct Group<'t> {
    segments: Cow<'t, [Segment<'t>]>,
}

impl<'t> Group<'t> {
    /// The first segment of this id.
    pub(crate) fn first(&self, id: &str) -> Option<Segment<'t>> {
        self.segments.iter().find(|segment| segment.is(id)).copied()
    }

    /// All segments, in order.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'t>> + '_ {
        self.segments.iter().copied()
    }

    /// All segments in order, each with what it stands behind.
    pub(crate) fn anchored(&self) -> impl Iterator<Item = (Anchor, Segment<'t>)> + '_ {
        let mut anchor = Anchor::Person;
        self.segments().map(move |segment| {
            anchor = match segment.id() {
                "PID" | "PD1" => Anchor::Person,
                "PV1" | "PV2" => Anchor::Visit,
                "PR1" => Anchor::Procedure,
                "IN1" | "IN2" | "IN3" => Anchor::Insurance,
                _ => anchor,
            };
            (anchor, segment)
        })
    }

    /// Where a segment of this id next stands at or after `from`.
    fn position(&self, id: &str, from: usize) -> Option<usize> {
        self.segments.iter().enumerate().skip(from).find(|(_, segment)| segment.is(id)).map(|(index, _)| index)
    }

    fn slice(&self, from: usize, to: usize) -> Cow<'t, [Segment<'t>]> {
        self.segments.iter().skip(from).take(to.saturating_sub(from)).copied().collect()
    }

    /// Cuts in front of every segment of this id; what stands before the first goes with the first. One piece when there is at most one.
    fn cut(self, id: &str) -> Vec<Self> {
        let mut pieces = Vec::new();
        let mut from = 0;
        let mut search = self.position(id, 0).map_or(self.segments.len(), |first| first + 1);
        while let Some(next) = self.position(id, search) {
            pieces.push(Self { segments: self.slice(from, next) });
            from = next;
            search = next + 1;
        }
        pieces.push(Self { segments: self.slice(from, self.segments.len()) });
        pieces
    }

    /// One group for each MRG, all under the same PID.
    fn by_merge(self) -> Vec<Self> {
        let head: Vec<Segment<'t>> = self.segments.iter().copied().take_while(|segment| !matches!(segment.id(), "MRG" | "PV1")).collect();
        let pieces = self.cut("MRG");
        if pieces.len() == 1 {
            return pieces;
        }
        pieces
            .into_iter()
            .enumerate()
            .map(|(index, piece)| if index == 0 { piece } else { Self { segments: head.iter().chain(piece.segments.iter()).copied().collect() } })
            .collect()
    }
}

/// The groups of a message, by the shape of its event.
pub(crate) fn groups<'t>(message: &'t Message<'t>, shape: Shape) -> SmallVec<[Group<'t>; 1]> {
    let whole = Group { segments: Cow::Borrowed(message.all_segments()) };
    match shape {
        Shape::One => smallvec![whole],
        Shape::TwoPatients => whole.cut("PID").into(),
        Shape::Merges => whole.cut("PID").into_iter().flat_map(Group::by_merge).collect(),
    }
}
