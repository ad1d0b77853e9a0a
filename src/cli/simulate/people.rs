//! Who is in the made-up hospital: patients, staff and units. Every name is invented.

use crate::random::Random;

const FAMILIES: [&str; 48] = [
    "Abara",
    "Alder",
    "Amsel",
    "Arkwright",
    "Beauchêne",
    "Birch",
    "Brannigan",
    "Calloway",
    "Castellan",
    "Dahlgren",
    "Dunmore",
    "Eklund",
    "Fairweather",
    "Fenwick",
    "Galindo",
    "Grünwald",
    "Hallström",
    "Harrowgate",
    "Ibekwe",
    "Ivanenko",
    "Jankowiak",
    "Kestrel",
    "Kilbride",
    "Kowalczyk",
    "Larkspur",
    "Lindqvist",
    "Marchetti",
    "Mbeki-Stone",
    "Merriweather",
    "Nakagawa",
    "Núñez",
    "O'Farrell",
    "Okonjo",
    "Pellegrin",
    "Penhallow",
    "Quill",
    "Rasmussen",
    "Ravenscroft",
    "Sandoval",
    "Şimşek",
    "Thackeray",
    "Thistle",
    "Umarov",
    "Vasquez-Roy",
    "Villeneuve",
    "Wexford",
    "Yarrow",
    "Zielinski",
];
const GIVEN: [(&str, char); 32] = [
    ("Ada", 'F'),
    ("Agnes", 'F'),
    ("Beatriz", 'F'),
    ("Celeste", 'F'),
    ("Dorothea", 'F'),
    ("Elif", 'F'),
    ("Fatima", 'F'),
    ("Greta", 'F'),
    ("Hana", 'F'),
    ("Imogen", 'F'),
    ("Josefa", 'F'),
    ("Keiko", 'F'),
    ("Leonie", 'F'),
    ("Mirela", 'F'),
    ("Nadia", 'F'),
    ("Odile", 'F'),
    ("Anton", 'M'),
    ("Basil", 'M'),
    ("Cosmo", 'M'),
    ("Dmitri", 'M'),
    ("Emeka", 'M'),
    ("Florian", 'M'),
    ("Gustav", 'M'),
    ("Hamid", 'M'),
    ("Isidro", 'M'),
    ("Jasper", 'M'),
    ("Kofi", 'M'),
    ("Lorenz", 'M'),
    ("Matteo", 'M'),
    ("Nils", 'M'),
    ("Oskar", 'M'),
    ("Piotr", 'M'),
];
const STREETS: [&str; 8] =
    ["Quay Street", "Mill Lane", "Harbour Road", "Old Cannery Row", "Rope \\T\\ Anchor Yard", "Lighthouse Walk", "Chandler Street", "Ferry Hill"];

/// Somebody who may become a patient.
#[derive(Clone, Debug)]
pub(super) struct Person {
    /// The number of the medical record.
    pub(super) record: String,
    pub(super) family: String,
    pub(super) given: &'static str,
    pub(super) middle: &'static str,
    /// `YYYYMMDD`; empty while nobody knows.
    pub(super) born: String,
    pub(super) sex: char,
    pub(super) street: String,
    pub(super) telephone: String,
    /// Whether anybody knows yet who it is.
    pub(super) is_known: bool,
}

impl Person {
    /// Somebody new, under this number of a series.
    pub(super) fn new(series: &str, number: u32, random: &mut Random) -> Self {
        let family = random.pick(&FAMILIES).copied().unwrap_or("Quill");
        let (given, sex) = random.pick(&GIVEN).copied().unwrap_or(("Ada", 'F'));
        let middle = if random.one_in(3) { random.pick(&GIVEN).map_or("", |(name, _)| *name) } else { "" };
        let street = random.pick(&STREETS).copied().unwrap_or("Mill Lane");
        Self {
            record: format!("{series}-{}", 500_000 + number),
            family: family.to_owned(),
            given,
            middle,
            born: format!("{}{:02}{:02}", random.between(1931, 2009), random.between(1, 13), random.between(1, 29)),
            sex,
            street: format!("{} {street}", random.between(1, 180)),
            telephone: format!("(555)555-{:04}", random.between(100, 200)),
            is_known: true,
        }
    }

    /// Somebody whom nobody can name.
    pub(super) fn unknown(series: &str, number: u32, random: &mut Random) -> Self {
        let sex = if random.one_in(2) { 'F' } else { 'M' };
        Self {
            record: format!("T{series}-{}", 500_000 + number),
            family: "Doe".to_owned(),
            given: "Unknown",
            middle: "",
            born: String::new(),
            sex,
            street: String::new(),
            telephone: String::new(),
            is_known: false,
        }
    }
}

/// What a unit is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Emergency,
    Intensive,
    Ward,
}

/// A unit and its beds.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// PV1-3.1.
    pub(super) code: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// PV1-10.
    pub(super) service: &'static str,
    /// Which beds somebody has, or is to have again.
    pub(super) taken: Vec<bool>,
}

/// How many beds a ward has at the most.
const WARD: usize = 24;
/// How many nurses a unit has.
const NURSES: usize = 8;
const WARDS: [(&str, &str, &str); 8] = [
    ("4N", "4 North", "MED"),
    ("5S", "5 South", "SUR"),
    ("6W", "6 West", "CAR"),
    ("4S", "4 South", "NEU"),
    ("5N", "5 North", "ORT"),
    ("6E", "6 East", "PUL"),
    ("7N", "7 North", "ONC"),
    ("7S", "7 South", "URO"),
];

/// The units of a hospital of this many beds; the emergency department comes first, and its bays come on top.
pub(super) fn units(n_beds: usize) -> Vec<Unit> {
    let unit =
        |code: &str, name: &str, kind, service, n: usize| Unit { code: code.to_owned(), name: name.to_owned(), kind, service, taken: vec![false; n] };
    let mut units = vec![unit("ED", "Emergency", Kind::Emergency, "EMR", (n_beds / 4).max(4))];
    let n_intensive = if n_beds < 8 { 0 } else { n_beds / 8 };
    if n_intensive > 0 {
        units.push(unit("ICU", "Intensive Care", Kind::Intensive, "INT", n_intensive));
    }
    let mut left = n_beds - n_intensive;
    let n_wards = left.div_ceil(WARD).max(1);
    for n in 0..n_wards {
        let n_here = left.div_ceil(n_wards - n);
        left -= n_here;
        let (code, name, service) = WARDS.get(n % WARDS.len()).copied().unwrap_or(("4N", "4 North", "MED"));
        // A ninth ward is the first of the next house.
        let house = n / WARDS.len();
        if house == 0 {
            units.push(unit(code, name, Kind::Ward, service, n_here));
        } else {
            units.push(unit(&format!("H{}{code}", house + 1), &format!("House {}, {name}", house + 1), Kind::Ward, service, n_here));
        }
    }
    units
}

/// How many doctors a hospital of this many beds has.
pub(super) const fn n_doctors(n_beds: usize) -> usize {
    12 + n_beds / 6
}

fn staff_name(n: usize) -> (&'static str, &'static str) {
    let family = FAMILIES.get((n * 7 + 3) % FAMILIES.len()).copied().unwrap_or("Quill");
    let (given, _) = GIVEN.get((n * 5 + 1) % GIVEN.len()).copied().unwrap_or(("Ada", 'F'));
    (family, given)
}

/// A doctor as PV1-7 and ROL-4 name one (XCN).
pub(super) fn doctor(n: usize) -> String {
    let (family, given) = staff_name(n);
    format!("D{n:03}^{family}^{given}^^^^^^GHH^L^^^EI")
}

/// A nurse of a unit, who changes with the shift.
pub(super) fn nurse(unit: &Unit, n: usize) -> String {
    let n = n % NURSES;
    let (family, given) = staff_name(n + 11);
    format!("N{}{n:02}^{family}^{given}^^^^^^GHH^L^^^EI", unit.code)
}

/// `staff.csv` of a hospital of this many beds.
pub(super) fn staff_csv(n_beds: usize) -> String {
    let mut text = "user,name,ids,groups,active\n".to_owned();
    for n in 0..n_doctors(n_beds) {
        let (family, given) = staff_name(n);
        text += &format!("doctor.{n:03},{given} {family},GHH/EI:D{n:03},,true\n");
    }
    for unit in units(n_beds) {
        let group = unit.code.to_lowercase();
        for n in 0..NURSES {
            let (family, given) = staff_name(n + 11);
            text += &format!("nurse.{group}.{n:02},{given} {family},GHH/EI:N{}{n:02},nurse.{group},true\n", unit.code);
        }
    }
    text
}

/// `units.csv` of a hospital of this many beds.
pub(super) fn units_csv(n_beds: usize) -> String {
    let mut text = "facility,point_of_care,group,name,flags\n".to_owned();
    for unit in units(n_beds) {
        text += &format!("GHH,{},nurse.{},\"{}\",\n", unit.code, unit.code.to_lowercase(), unit.name);
    }
    text
}
