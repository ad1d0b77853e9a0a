//! What every reader of one message needs: the feed's rules, the event's row and the times.

use crate::adt::event::Times;
use crate::adt::profile::Profile;
use crate::adt::trigger::Rule;
use crate::care::fact::FieldUpdate;
use crate::care::notice::Notice;
use crate::care::notice::NoticeCode;
use crate::hl7::field::Field;
use crate::hl7::message::Message;
use crate::hl7::segment::Segment;
use crate::ids::Facility;
use crate::ids::TriggerEvent;
use crate::time::Timestamp;

/// One message being read.
pub(crate) struct Context<'a, 't> {
    /// The message.
    pub(crate) message: &'a Message<'t>,
    /// The feed's rules.
    pub(crate) profile: &'a Profile,
    /// The trigger event as sent.
    pub(crate) sent_trigger: TriggerEvent,
    /// The trigger event that is meant: after the feed's `event_map`.
    pub(crate) trigger: TriggerEvent,
    /// What the trigger table says of it.
    pub(crate) rule: Rule,
    /// How to read times.
    pub(crate) times: Times,
    /// What is worth telling.
    pub(crate) notices: Vec<Notice>,
}

impl Context<'_, '_> {
    /// Adds a notice about a field, once.
    pub(crate) fn notice(&mut self, code: NoticeCode, field: &'static str) {
        let notice = Notice::at(code, field);
        if !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
    }

    /// What a field says; where the feed says so for this event, being empty clears.
    pub(crate) fn update<'t, T>(
        &mut self,
        segment: Segment<'t>,
        n: usize,
        name: &'static str,
        read: impl FnOnce(&mut Self, Field<'t>) -> Option<T>,
    ) -> FieldUpdate<T> {
        let field = segment.field(n);
        if field.is_empty() && self.profile.empty_clears(name, self.sent_trigger) {
            return FieldUpdate::Clear;
        }
        field.update(|field| read(self, field))
    }

    /// What a field says of a time.
    pub(crate) fn time(&mut self, segment: Segment<'_>, n: usize, name: &'static str) -> FieldUpdate<Timestamp> {
        self.update(segment, n, name, |this, field| {
            let text = field.text();
            let at = this.times.instant(&text);
            // The far past and future stand for "open" and are no mistake.
            if at.is_none() && !["0000", "1900", "2999", "9999"].iter().any(|year| text.starts_with(year)) {
                this.notice(NoticeCode::Unreadable, name);
            }
            at
        })
    }

    /// Where a place is when it does not say its facility: PV1-39, EVN-7, MSH-4, else the feed's.
    pub(crate) fn facility(&self, pv1: Segment<'_>) -> Facility {
        let event = self.message.first("EVN").map(|evn| evn.field(7).text());
        let said = [Some(pv1.field(39).text()), event, Some(self.message.header().field(4).text())];
        said.into_iter().flatten().find(|facility| !facility.is_empty()).map_or_else(|| self.profile.facility.clone(), Facility::new)
    }
}
