//! Where new room ids come from: drawn at random, or counted where the same is to come out each time.
//!
//! It knows nothing of what a room is about, and nothing of that is in an id.

use uuid::Uuid;

use crate::ids::CareRoomId;

/// Where new room ids come from.
#[derive(Debug)]
pub(crate) enum RoomIds {
    /// At random. The first three bytes are those of all rooms of a batch, so that they stand beside each other in the indexes by room.
    Random { beginning: [u8; 3] },
    /// Counted, so that `explain` and journeys say the same each time.
    Counted(u128),
}

impl RoomIds {
    /// Ids for the rooms of a batch.
    pub(crate) fn random() -> Self {
        let [a, b, c, ..] = *Uuid::new_v4().as_bytes();
        Self::Random { beginning: [a, b, c] }
    }

    pub(super) fn mint(&mut self) -> CareRoomId {
        match self {
            Self::Random { beginning } => {
                let mut id = Uuid::new_v4().into_bytes();
                for (to, from) in id.iter_mut().zip(*beginning) {
                    *to = from;
                }
                CareRoomId(Uuid::from_bytes(id))
            }
            Self::Counted(n) => {
                *n += 1;
                CareRoomId(Uuid::from_u128(*n))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::RoomIds;

    #[test]
    fn rooms_of_a_batch_begin_alike_and_are_drawn_at_random() {
        let batch = || {
            let mut ids = RoomIds::random();
            (0..100).map(|_| ids.mint().0).collect::<HashSet<_>>()
        };
        let (one, other) = (batch(), batch());
        assert_eq!(one.union(&other).count(), 200);
        assert!(one.iter().chain(&other).all(|id| id.get_version_num() == 4));
        let beginnings = |ids: &HashSet<uuid::Uuid>| ids.iter().map(|id| id.as_bytes()[..3].to_vec()).collect::<HashSet<_>>();
        assert_eq!((beginnings(&one).len(), beginnings(&other).len()), (1, 1));
        assert_ne!(beginnings(&one), beginnings(&other));
    }
}
