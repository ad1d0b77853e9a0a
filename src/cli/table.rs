//! Rows in columns that stand under each other.

/// Lines of the columns, each as wide as its widest cell; the last column is not padded.
///
/// `head` is given back as the first line.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = line(&mut head.iter().copied());
    std::iter::once(head).chain(rows.iter().map(|row| line(&mut row.iter().map(String::as_str)))).collect()
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["5W 3-A".to_owned(), "active".to_owned(), "7".to_owned()], vec!["—".to_owned(), "grace".to_owned(), String::new()]];
        assert_eq!(table(&["place", "status", "members"], &rows), ["place   status  members", "5W 3-A  active  7", "—       grace"]);
    }
}
