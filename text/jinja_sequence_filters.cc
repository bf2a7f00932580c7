// Filters on lists, dicts and everything else that can be iterated.
#include <algorithm>
#include <functional>
#include <unordered_map>
#include <unordered_set>

#include "text/jinja_args.h"
#include "text/jinja_filters.h"

namespace thimble::jinja {
namespace {

// ---- keys ----

// What `attribute=` names: "a.b.0" is a path of items; nothing is the value itself.
struct Path {
  Path() = default;
  explicit Path(const Value& attribute) {
    if (!attribute.is_string()) {
      if (!attribute.is_none()) parts.push_back(attribute);
      return;
    }
    const std::string_view text = attribute.text();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('.', begin), text.size());
      const std::string_view part = text.substr(begin, end - begin);
      const bool number = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
      parts.push_back(number ? Value::Integer(*ParseInt(part, 10)) : Value::String(std::string(part)));
      begin = end + 1;
    }
  }
  Value Get(Runtime& runtime, Value item) const {
    for (const Value& part : parts) {
      item = GetItem(runtime, item, part);
      if (fallback && !fallback->is_none() && item.is_undefined()) item = *fallback;
    }
    return item;
  }
  std::vector<Value> parts;
  std::optional<Value> fallback;
};

Value IgnoreCase(Runtime& runtime, const Value& value) {
  return value.is_string() ? runtime.Text(Lower(value.text())) : value;
}

struct Key {
  Value Of(Runtime& runtime, const Value& item) const {
    Value key = path.Get(runtime, item);
    return case_sensitive ? key : IgnoreCase(runtime, key);
  }
  Path path;
  bool case_sensitive = false;
};

// The items of `make` as a generator: like Jinja2's, it starts (and fails) when its first item is asked for.
Value Deferred(const Value& input, std::function<std::vector<Value>(Runtime&)> make) {
  std::shared_ptr<IteratorObject> items;
  return Generator({input}, [make = std::move(make), items](Runtime& runtime, Value* out) mutable {
    if (!items) items = Iterate(runtime, runtime.List(make(runtime)));
    return items->Next(runtime, out);
  });
}

// Iterates over `input` from the first call on; a false input has no items.
class LazySource {
 public:
  explicit LazySource(const Value& input) : input_(input) {}
  bool Next(Runtime& runtime, Value* out) {
    if (!source_ && !input_.Truthy()) return false;
    if (!source_) source_ = Iterate(runtime, input_);
    return source_->Next(runtime, out);
  }

 private:
  Value input_;
  std::shared_ptr<IteratorObject> source_;
};

struct Keyed {
  Value key, item;
};

// Stable, in both directions.
void Sort(Runtime& runtime, std::vector<Keyed>* items, bool reverse) {
  std::stable_sort(items->begin(), items->end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? Less(runtime, b.key, a.key) : Less(runtime, a.key, b.key);
  });
}

Value ListOf(Runtime& runtime, const std::vector<Keyed>& keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (const Keyed& entry : keyed) items.push_back(entry.item);
  return runtime.List(std::move(items));
}

// ---- one value of many ----

Value First(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("first", call, {});
  Value item;
  if (Iterate(runtime, input)->Next(runtime, &item)) return item;
  return Value::Undefined("No first item, sequence was empty.");
}

Value Last(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("last", call, {});
  const auto iterator = IterateReversed(input);
  if (!iterator) Fail(ErrorKind::kType, "'{}' object is not reversible", input.TypeName());
  Value item;
  if (iterator->Next(runtime, &item)) return item;
  return Value::Undefined("No last item, sequence was empty.");
}

Value Length(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("length", call, {});
  const auto length = input.Length();
  if (!length) Fail(ErrorKind::kType, "object of type '{}' has no len()", input.TypeName());
  return Value::Integer(static_cast<Int>(*length));
}

template <bool kMax>
Value Extreme(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("min or max", call, {"case_sensitive", "attribute"});
  const Key key{Path(args.Or(1, Value::None())), args.IsTrue(0)};
  const auto iterator = Iterate(runtime, input);
  Value best;
  if (!iterator->Next(runtime, &best)) return Value::Undefined("No aggregated item, sequence was empty.");
  Value best_key = key.Of(runtime, best);
  for (Value item; iterator->Next(runtime, &item);) {
    Value item_key = key.Of(runtime, item);
    if (kMax ? Less(runtime, best_key, item_key) : Less(runtime, item_key, best_key)) {
      best = item;
      best_key = std::move(item_key);
    }
  }
  return best;
}

Value Sum(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("sum", call, {"attribute", "start"});
  const Path path(args.Or(0, Value::None()));
  Value total = args.Or(1, Value::Integer(0));
  if (total.is_string()) Fail(ErrorKind::kType, "sum() can't sum strings, use join");
  const auto iterator = Iterate(runtime, input);
  for (Value item; iterator->Next(runtime, &item);) {
    total = Binary(runtime, BinaryOp::kAdd, total, path.Get(runtime, item));
  }
  return total;
}

Value Join(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("join", call, {"d", "attribute"});
  const Path path(args.Or(1, Value::None()));
  const std::string separator = args.Has(0) ? args[0].Str() : "";
  std::string out;
  const auto iterator = Iterate(runtime, input);
  bool first = true;
  for (Value item; iterator->Next(runtime, &item); first = false) {
    const size_t before = out.size();
    if (!first) out += separator;
    out += path.Get(runtime, item).Str();
    runtime.Charge(1 + (out.size() - before) / 4);
    if (out.size() > kMaxTextBytes)
      Fail(ErrorKind::kLimit, "a string is longer than {} bytes", kMaxTextBytes);
  }
  return runtime.Text(std::move(out));
}

// ---- new sequences ----

Value ToList(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("list", call, {});
  return runtime.List(Collect(runtime, input));
}

Value Items(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("items", call, {});
  return Deferred(input, [input](Runtime& runtime) {
    if (input.is_undefined()) return std::vector<Value>();
    if (!input.is(Kind::kDict)) Fail(ErrorKind::kType, "Can only get item pairs from a mapping.");
    return Collect(runtime, Value::View(input, 'i'));
  });
}

Value Reverse(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("reverse", call, {});
  if (input.is_string()) {
    return GetSlice(runtime, input, Value::None(), Value::None(), Value::Integer(-1));
  }
  if (auto iterator = IterateReversed(input)) return Value::Iterator(std::move(iterator));
  if (!IsIterable(input)) Fail(ErrorKind::kRuntime, "argument must be iterable");
  auto items = Collect(runtime, input);
  std::reverse(items.begin(), items.end());
  return runtime.List(std::move(items));
}

Value SortFilter(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("sort", call, {"reverse", "case_sensitive", "attribute"});
  std::vector<Key> keys;  // "a,b" sorts by two
  if (args.Given(2) && args[2].is_string()) {
    const std::string_view text = args[2].text();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      keys.push_back({Path(runtime.Text(std::string(text.substr(begin, end - begin)))), args.IsTrue(1)});
      begin = end + 1;
    }
  } else {
    keys.push_back({Path(args.Or(2, Value::None())), args.IsTrue(1)});
  }
  std::vector<Keyed> items;
  for (Value& item : Collect(runtime, input)) {
    std::vector<Value> parts;
    parts.reserve(keys.size());
    for (const Key& key : keys) parts.push_back(key.Of(runtime, item));
    items.push_back({runtime.List(std::move(parts)), std::move(item)});
  }
  Sort(runtime, &items, args.IsTrue(0));
  return ListOf(runtime, items);
}

Value DictSort(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("dictsort", call, {"case_sensitive", "by", "reverse"});
  const std::string by = args.TextOr(1, "key");
  if (by != "key" && by != "value") {
    Fail(ErrorKind::kRuntime, "You can only sort by either \"key\" or \"value\"");
  }
  if (input.is_undefined()) input.FailUndefined();
  if (!input.is(Kind::kDict)) Fail(ErrorKind::kType, "dictsort needs a dict, not '{}'", input.TypeName());
  std::vector<Keyed> items;
  for (const auto& [key, value] : input.dict().entries()) {
    const Value& chosen = by == "key" ? key : value;
    items.push_back({args.IsTrue(0) ? chosen : IgnoreCase(runtime, chosen), runtime.Tuple({key, value})});
  }
  Sort(runtime, &items, args.IsTrue(2));
  return ListOf(runtime, items);
}

Value Unique(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("unique", call, {"case_sensitive", "attribute"});
  const Key key{Path(args.Or(1, Value::None())), args.IsTrue(0)};
  return Deferred(input, [input, key](Runtime& runtime) {
    std::unordered_set<Value, ValueHash, ValueEqual> seen;
    std::vector<Value> items;
    for (Value& item : Collect(runtime, input)) {
      const Value item_key = key.Of(runtime, item);
      runtime.Charge(kDictEntrySteps + item_key.weight() / 16);
      if (seen.insert(item_key).second) items.push_back(std::move(item));
    }
    return items;
  });
}

Value GroupBy(Runtime& runtime, const Value& input, const CallArgs& call) {
  const BoundArgs args("groupby", call, {"attribute", "default", "case_sensitive"}, 1);
  Key key{Path(args[0]), args.IsTrue(2)};
  if (args.Has(1)) key.path.fallback = args[1];
  std::vector<Keyed> items;
  for (Value& item : Collect(runtime, input)) {
    Value item_key = key.Of(runtime, item);
    items.push_back({std::move(item_key), std::move(item)});
  }
  Sort(runtime, &items, false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < items.size();) {
    size_t end = begin;
    std::vector<Value> members;
    for (; end < items.size() && Equal(items[begin].key, items[end].key); ++end)
      members.push_back(items[end].item);
    // The name of a group is its first member's, with its case.
    groups.push_back(
        Value::Group(key.path.Get(runtime, items[begin].item), runtime.List(std::move(members))));
    begin = end;
  }
  return runtime.List(std::move(groups));
}

std::vector<Value> Batches(Runtime& runtime, const Value& input, Int size, const Value& filler) {
  std::vector<Value> batches, current;
  const auto finish = [&] { batches.push_back(runtime.List(std::exchange(current, {}))); };
  for (Value& item : Collect(runtime, input)) {
    if (static_cast<Int>(current.size()) == size) finish();
    current.push_back(std::move(item));
  }
  if (current.empty()) return batches;
  while (!filler.is_none() && static_cast<Int>(current.size()) < size) {
    runtime.Charge(kItemSteps);
    current.push_back(filler);
  }
  finish();
  return batches;
}

Value Batch(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("batch", call, {"linecount", "fill_with"}, 1);
  return Deferred(input, [input, args](Runtime& runtime) {
    return Batches(runtime, input, args.IntOr(0, 0), args.Or(1, Value::None()));
  });
}

std::vector<Value> Slices(Runtime& runtime, const Value& input, Int n_slices, const Value& filler) {
  const auto items = Collect(runtime, input);
  const Int length = static_cast<Int>(items.size());
  if (n_slices == 0) Fail(ErrorKind::kOverflow, "integer division or modulo by zero");
  std::vector<Value> slices;
  size_t begin = 0;
  for (Int i = 0; i < n_slices; ++i) {
    const bool longer = i < length % n_slices;
    const size_t end = begin + static_cast<size_t>(length / n_slices) + (longer ? 1 : 0);
    std::vector<Value> part(items.begin() + static_cast<ptrdiff_t>(begin),
                            items.begin() + static_cast<ptrdiff_t>(end));
    if (!filler.is_none() && !longer) part.push_back(filler);
    slices.push_back(runtime.List(std::move(part)));
    runtime.Charge(kItemSteps);
    begin = end;
  }
  return slices;
}

Value Slice(Runtime&, const Value& input, const CallArgs& call) {
  const BoundArgs args("slice", call, {"slices", "fill_with"}, 1);
  return Deferred(input, [input, args](Runtime& runtime) {
    return Slices(runtime, input, args.IntOr(0, 0), args.Or(1, Value::None()));
  });
}

// ---- map, select, reject ----

const std::string& NameArgument(const CallArgs& args, size_t i, const char* what) {
  if (args.positional.size() <= i) Fail(ErrorKind::kRuntime, "{} is missing", what);
  if (!args.positional[i].is_string()) Fail(ErrorKind::kType, "{} must be a str", what);
  return args.positional[i].text();
}

CallArgs Without(const CallArgs& args, size_t n_first) {
  return {{args.positional.begin() + static_cast<ptrdiff_t>(n_first), args.positional.end()}, args.named};
}

Value Held(const CallArgs& args) {
  std::vector<Value> values = args.positional;
  for (const auto& [name, value] : args.named) values.push_back(value);
  return Value::List(std::move(values));
}

// map and select compute their items as they are asked for, so an error comes only then.
Value MapAttribute(const Value& input, const CallArgs& args, const Value& attribute) {
  return Generator({input, Held(args)}, [source = LazySource(input), args, attribute,
                                         path = std::optional<Path>()](Runtime& runtime, Value* out) mutable {
    if (!source.Next(runtime, out)) return false;
    if (!path) {
      for (const auto& [name, value] : args.named) {
        if (name != "attribute" && name != "default") {
          Fail(ErrorKind::kRuntime, "unexpected keyword argument '{}' of map", name);
        }
      }
      path = Path(attribute);
      if (const Value* fallback = args.Named("default")) path->fallback = *fallback;
    }
    *out = path->Get(runtime, *out);
    return true;
  });
}

Value Map(Runtime&, const Value& input, const CallArgs& args) {
  const Value* attribute = args.Named("attribute");
  if (args.positional.empty() && attribute != nullptr) return MapAttribute(input, args, *attribute);
  return Generator({input, Held(args)},
                   [source = LazySource(input), args](Runtime& runtime, Value* out) mutable {
                     if (!source.Next(runtime, out)) return false;
                     const std::string& name = NameArgument(args, 0, "the filter of map");
                     *out = ApplyFilter(runtime, name, *out, Without(args, 1));
                     return true;
                   });
}

template <bool kKeep, bool kAttribute>
Value Select(Runtime&, const Value& input, const CallArgs& args) {
  constexpr size_t kTestAt = kAttribute ? 1 : 0;
  const auto passes = [args](Runtime& runtime, const Value& item) {
    if (kAttribute && args.positional.empty()) {
      Fail(ErrorKind::kRuntime, "Missing parameter for attribute name");
    }
    const Value tested = kAttribute ? Path(args.positional[0]).Get(runtime, item) : item;
    if (args.positional.size() <= kTestAt) return tested.Truthy();
    const std::string& name = NameArgument(args, kTestAt, "the name of the test");
    return ApplyTest(runtime, name, tested, Without(args, kTestAt + 1));
  };
  return Generator({input, Held(args)},
                   [source = LazySource(input), passes](Runtime& runtime, Value* out) mutable {
                     while (source.Next(runtime, out)) {
                       if (passes(runtime, *out) == kKeep) return true;
                     }
                     return false;
                   });
}

}  // namespace

Filter FindSequenceFilter(std::string_view name) {
  static const std::unordered_map<std::string_view, Filter> table = {
      {"batch", Batch},
      {"count", Length},
      {"dictsort", DictSort},
      {"first", First},
      {"groupby", GroupBy},
      {"items", Items},
      {"join", Join},
      {"last", Last},
      {"length", Length},
      {"list", ToList},
      {"map", Map},
      {"max", Extreme<true>},
      {"min", Extreme<false>},
      {"reject", Select<false, false>},
      {"rejectattr", Select<false, true>},
      {"reverse", Reverse},
      {"select", Select<true, false>},
      {"selectattr", Select<true, true>},
      {"slice", Slice},
      {"sort", SortFilter},
      {"sum", Sum},
      {"unique", Unique},
  };
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace thimble::jinja
