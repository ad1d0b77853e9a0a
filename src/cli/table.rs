//! Rows in columns that stand under each other.
//!
//! On a terminal that is too narrow long cells are cut, with an ellipsis; where a program may read the rows they never are.

/// No cell is cut to less than this.
const LEAST: usize = 24;

/// Lines of the columns, each as wide as its widest cell; the last column is not padded.
///
/// `head` is given back as the first line. With a `terminal` of so many columns, cells are cut where the lines would not fit into it; but none of a
/// column called `id`, which is there to be copied, and none of the last column, which widens no other.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], terminal: Option<usize>) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..head.len()).map(width).collect();
    if let Some(terminal) = terminal {
        let may_shrink: Vec<bool> = head.iter().enumerate().map(|(column, name)| *name != "id" && column + 1 < head.len()).collect();
        shrink(&mut widths, &may_shrink, terminal);
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let last = widths.len().saturating_sub(1);
        let padded: Vec<String> = cells
            .zip(widths.iter().enumerate())
            .map(|(cell, (column, width))| if column == last { cell.to_owned() } else { format!("{:<width$}", cut(cell, *width)) })
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(&mut head.iter().copied());
    std::iter::once(head).chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str)))).collect()
}

/// Makes the widest columns narrower, all to the same width, until a line fits or no column may be narrower.
fn shrink(widths: &mut [usize], may_shrink: &[bool], terminal: usize) {
    let gaps = widths.len().saturating_sub(1) * 2;
    while widths.iter().sum::<usize>() + gaps > terminal {
        let widest = widths.iter().zip(may_shrink).filter(|(_, may)| **may).map(|(width, _)| *width).max().unwrap_or(0);
        if widest <= LEAST {
            return;
        }
        for (width, _) in widths.iter_mut().zip(may_shrink).filter(|(width, may)| **may && **width == widest) {
            *width -= 1;
        }
    }
}

/// The beginning of a text and an ellipsis, when it is longer than this.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["5W 3-A".to_owned(), "active".to_owned(), "7".to_owned()], vec!["—".to_owned(), "grace".to_owned(), String::new()]];
        assert_eq!(table(&["place", "status", "members"], &rows, None), ["place   status  members", "5W 3-A  active  7", "—       grace"]);
    }

    #[test]
    fn on_a_terminal_what_is_too_long_is_cut_but_no_id_and_nothing_elsewhere() {
        let (long, id, last) = ("Ö".repeat(60), "0".repeat(36), "z".repeat(40));
        let rows = [
            vec![id.clone(), long.clone(), "active".to_owned(), last.clone()],
            vec![id.clone(), "short".to_owned(), "on_leave".to_owned(), last.clone()],
        ];
        let head = ["id", "name", "status", "what to do"];
        let of = |terminal| table(&head, &rows, terminal).into_iter().nth(1).unwrap();
        assert_eq!(of(None), format!("{id}  {long}  active    {last}"), "not where a program may read it");
        assert_eq!(of(Some(150)), of(None), "not where there is room");
        assert_eq!(of(Some(120)), format!("{id}  {}…  active    {last}", "Ö".repeat(29)));
        assert_eq!(of(Some(120)).chars().count(), 120);
        assert_eq!(of(Some(80)), format!("{id}  {}…  active    {last}", "Ö".repeat(23)), "what is left says something");
        assert_eq!(table(&head, &rows, Some(80))[2], format!("{id}  {:<24}  on_leave  {last}", "short"));
    }
}
