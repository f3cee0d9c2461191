// Paths and words come and go as bytes. The GIL is free while a text is read, and Ctrl-C ends the reading.
#include "text/bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "text/cooccurrence.h"
#include "text/corpus.h"

namespace py = pybind11;

namespace seqkern::text {

namespace {

void poll() {
  const py::gil_scoped_acquire locked;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// What `read` returns, read without the GIL. A file that cannot be read becomes the OSError of its kind.
template <class Read>
auto without_gil(const std::string& path, const Read& read) {
  try {
    const py::gil_scoped_release released;
    return read();
  } catch (const std::system_error& error) {
    errno = error.code().value();
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path.c_str());
    throw py::error_already_set();
  }
}

py::tuple count(const std::string& path, int64_t max_vocab, bool strict, int threads) {
  const WordCounts found = without_gil(path, [&] { return count_words(path, {max_vocab, strict, threads}, poll); });
  py::list words(found.words.size());
  py::array_t<int64_t> counts(static_cast<py::ssize_t>(found.words.size())), firsts(counts.size());
  for (size_t i = 0; i < found.words.size(); ++i) {
    const WordCount& word = found.words[i];
    words[i] = py::bytes(word.word.data(), word.word.size());
    counts.mutable_data()[i] = word.count;
    firsts.mutable_data()[i] = word.first;
  }
  return py::make_tuple(words, counts, firsts, found.total, found.sentences);
}

using Ids = py::array_t<int32_t, py::array::c_style>;

std::unique_ptr<Encoder> make_encoder(const std::string& path, const std::vector<std::string>& words, const Ids& ids, bool strict,
                                      int threads) {
  if (ids.ndim() != 1 || ids.size() != static_cast<py::ssize_t>(words.size())) throw py::value_error("ids must be one a word");
  const int32_t* data = ids.data();
  return without_gil(path, [&] { return std::make_unique<Encoder>(path, words, data, strict, threads, poll); });
}

void fill(const Encoder& encoder, Ids& ids, int threads) {
  if (ids.ndim() != 1 || ids.size() != encoder.size()) throw py::value_error("ids must have the encoder's size");
  int32_t* data = ids.mutable_data();
  const py::gil_scoped_release released;
  encoder.fill(data, threads, poll);
}

// A vector's elements as an array, without a copy.
template <class T>
py::array_t<T> to_array(std::vector<T>&& elements) {
  auto owned = std::make_unique<std::vector<T>>(std::move(elements));
  std::vector<T>* vector = owned.get();
  const py::capsule owner(owned.release(), [](void* freed) { delete static_cast<std::vector<T>*>(freed); });
  return py::array_t<T>(static_cast<py::ssize_t>(vector->size()), vector->data(), owner);
}

template <class Value>
py::tuple count_neighbours(const Ids& ids, int32_t vocab_size, const std::vector<Value>& weights, int threads) {
  const int32_t* data = ids.data();
  const int64_t length = ids.size();
  SparseRows<Value> rows;
  {
    const py::gil_scoped_release released;
    rows = cooccurrence(data, length, vocab_size, weights, threads, poll);
  }
  return py::make_tuple(to_array(std::move(rows.row_begin)), to_array(std::move(rows.columns)), to_array(std::move(rows.values)));
}

}  // namespace

void bind(py::module_& module) {
  py::module_ text = module.def_submodule("text", "Words of text files, as seqkern.data.words has them.");
  text.def("count_words", &count, py::arg("path"), py::arg("max_vocab"), py::arg("strict"), py::arg("threads"));
  text.def("cooccurrence", &count_neighbours<int64_t>, py::arg("ids").noconvert(), py::arg("vocab_size"), py::arg("weights"),
           py::arg("threads"));
  text.def("weighted_cooccurrence", &count_neighbours<double>, py::arg("ids").noconvert(), py::arg("vocab_size"),
           py::arg("weights"), py::arg("threads"));
  py::class_<Encoder>(text, "Encoder")
      .def(py::init(&make_encoder), py::arg("path"), py::arg("words"), py::arg("ids").noconvert(), py::arg("strict"),
           py::arg("threads"))
      .def_property_readonly("size", &Encoder::size)
      .def_property_readonly("words", &Encoder::words)
      .def_property_readonly("sentences", &Encoder::sentences)
      .def("fill", &fill, py::arg("ids").noconvert(), py::arg("threads"));
}

}  // namespace seqkern::text
