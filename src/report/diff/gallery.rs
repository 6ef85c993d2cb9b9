//! The files that are worth a look, as cards; with their pictures where those were asked for.

use std::collections::BTreeMap;

use maud::{Markup, html};
use pipeline::classify::decode_text;

use crate::diff::change::{Change, Said};
use crate::diff::figures::Figures;
use crate::report::page::name;
use crate::report::text::{percent, printable};

/// Longer side of a picture on the page.
const SIDE: u32 = 96;

/// Files of the changed label that both sides were surest of.
pub(super) fn changed(figures: &Figures, pictures: &BTreeMap<String, String>) -> Markup {
    html! {
        @if !figures.surest_changes.is_empty() {
            p { "The files with another label that both sides were sure of, the surest first: here one of the two is wrong." }
            (cards(&figures.surest_changes, pictures))
        }
    }
}

/// Files that keep their label and whose confidence moved most.
pub(super) fn moved(figures: &Figures, pictures: &BTreeMap<String, String>) -> Markup {
    html! {
        @if !figures.largest_moves.is_empty() {
            p { "The files that keep their label and whose confidence moved most." }
            (cards(&figures.largest_moves, pictures))
        }
    }
}

fn cards(changes: &[Change], pictures: &BTreeMap<String, String>) -> Markup {
    html! {
        ol.mistakes {
            @for change in changes {
                li {
                    @if let Some(picture) = pictures.get(&change.path) {
                        img.photo src=(picture) width=(SIDE) height=(SIDE) alt={ "Picture " (printable(&change.path)) };
                    }
                    dl {
                        (side("old", change.old.as_ref()))
                        (side("new", change.new.as_ref()))
                        div.source { dt.hidden { "file" } dd { (name(&change.path)) } }
                    }
                }
            }
        }
    }
}

fn side(word: &str, said: Option<&Said>) -> Markup {
    html! {
        @if let Some((label, confidence)) = said.and_then(|said| said.label.as_ref()) {
            div { dt { (word) } dd { (name(&String::from_utf8_lossy(&decode_text(label)))) " " span.sure { (percent(f64::from(*confidence), 1)) } } }
        }
    }
}
