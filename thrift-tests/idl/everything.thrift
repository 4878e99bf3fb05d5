// Every type that Python's thriftpy2 knows as well, for both sides of the tests.
include "shared.thrift"

namespace py everything
namespace * tests.everything

typedef map<string, list<i64>> Groups
typedef shared.Point Place

enum Color {
    RED = 1,
    GREEN,
    BLUE = 10,
}

const i32 ANSWER = 42
const i64 FAR = -9223372036854775808
const double PI = 3.25
const string GREETING = "gr\"üß\tdich"
const bool YES = true
const Color FAVOURITE = Color.BLUE
const list<i32> PRIMES = [2, 3, 5, ANSWER]
const map<string, Color> COLORS = {"sky": Color.BLUE, "blood": Color.RED}
const set<string> WORDS = ["one", "two"]
const shared.Point ORIGIN = {"x": 0, "y": 0}
const i32 ITS_PORT = shared.PORT

union Either {
    1: i64 number,
    2: string text,
    3: shared.Point point,
    4: list<string> texts,
}

struct Everything {
    1: bool flag,
    2: byte small,
    3: i16 middle,
    4: i32 number,
    5: i64 large,
    6: double real,
    7: string text,
    8: binary data,
    9: Color color,
    10: shared.Point point,
    11: Either either,
    12: list<i32> numbers,
    13: list<list<string>> nested,
    14: map<string, i64> by_name,
    15: map<i32, map<string, list<binary>>> deep,
    16: list<Place> places,
    17: Groups groups,
    18: list<Color> colors,
    19: map<Color, bool> by_color,
    20: optional string maybe,
    21: optional i32 defaulted = 5,
    22: string greeting = GREETING,
    23: required i32 needed,
    24: map<double, byte> by_real,
    25: set<i64> unique,
    26: set<double> unique_reals,
    -27: bool negative,
    28: list<Either> eithers,
    29: string type,
    30: shared.Moment longNamed,
}

/** Something is not there. */
exception NotFound {
    1: string message,
    2: i32 code,
}

service Store extends shared.Base {
    /** Returns what it is given. */
    Everything same(1: Everything all),
    Groups group(1: list<i64> numbers, 2: list<string> names),
    /** Fails in as many ways as there are. */
    i32 fail(1: i32 how) throws (1: NotFound missing, 2: shared.Busy busy),
    void nothing(1: i32 how) throws (1: NotFound missing),
    void silent(),
    oneway void tell(1: string text),
    list<string> told(),
    i64 sum(1: i64 a, 2: i64 b = 5, 3: optional i64 c),
    Color following(1: Color color),
    binary reverse(1: binary data),
    bool flip(1: bool flag),
    double half(1: double number),
    Either swap(1: Either either),
}
