// Streams the rows of a call through a device: pieces of bounded size, whose copies run beside the kernels of others.

#include "row_stream.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <string>

#include "device_state.h"
#include "failure.h"
#include "lane.h"

namespace rvq::cuda {

namespace {

// One piece copied in, one computed, one copied out.
constexpr size_t kPiecesInFlight = 3;
// A piece takes a few times as long to copy as to launch, and has enough rows to keep a large device busy.
constexpr size_t kPieceBytes = size_t{8} << 20;
constexpr size_t kPieceRows = 16384;
// Fewer than this are not worth a lane's limit.
constexpr size_t kLeastRows = 256;

size_t rows_of_a_piece(const RowOperation& operation) {
  if (test_limits().piece_rows > 0) return test_limits().piece_rows;
  size_t rows = std::max(kPieceRows, kPieceBytes / std::max<size_t>(operation.row_bytes(), 1));
  rows = std::max<size_t>(1, std::min(rows, operation.count()));
  while (rows > kLeastRows && operation.memory(rows).device_bytes > kLaneBytes) rows = (rows + 1) / 2;
  return rows;
}

class RowStream {
 public:
  RowStream(RowOperation& operation, int device, const std::function<bool()>& go_on)
      : operation_(operation), pool_(LanePool::of(device)), go_on_(go_on), rows_(rows_of_a_piece(operation)) {}

  void run() {
    LanePool::Lease first = pool_.acquire(operation_.memory(rows_).device_bytes);
    reserve_first(*first);
    operation_.begin(*first);
    idle_.push_back(std::make_unique<LanePool::Lease>(std::move(first)));
    size_t next = 0;
    while (next < operation_.count() && go_on_()) {
      size_t rows = submit(next);
      if (rows == 0) return;
      next += rows;
    }
    bool complete = next == operation_.count();
    while (!pieces_.empty()) {
      if (!finish_oldest()) return;
      // Other calls may wait for lanes.
      idle_.resize(1);
    }
    if (complete) operation_.end(**idle_.front());
  }

 private:
  struct Piece {
    size_t first;
    size_t rows;
    std::unique_ptr<LanePool::Lease> lane;
  };

  // How many rows from `first` on have been submitted; zero: the call ends.
  size_t submit(size_t first) {
    for (;;) {
      if (idle_.empty() && pieces_.size() < most_in_flight_) {
        auto lane = another_lane();
        if (lane) idle_.push_back(std::move(lane));
      }
      if (idle_.empty()) {
        if (!finish_oldest()) return 0;
        continue;
      }
      size_t rows = std::min(rows_, operation_.count() - first);
      Lane& lane = **idle_.back();
      if (!reserved(lane, rows)) {
        // What this call has in flight holds memory too.
        while (!pieces_.empty()) {
          if (!finish_oldest()) return 0;
        }
        make_room();
        continue;
      }
      pieces_.push_back({first, rows, std::move(idle_.back())});
      idle_.pop_back();
      operation_.submit(first, rows, lane);
      return rows;
    }
  }

  bool finish_oldest() {
    Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    (*piece.lane)->wait(operation_.count() > kTinyRows);
    bool goes_on = operation_.finish(piece.first, piece.rows, **piece.lane);
    idle_.push_back(std::move(piece.lane));
    return goes_on;
  }

  // Null where there is none, or no memory for one: the lanes there are will do.
  std::unique_ptr<LanePool::Lease> another_lane() {
    try {
      return pool_.try_acquire(operation_.memory(rows_).device_bytes);
    } catch (const Failure& failure) {
      if (failure.kind != Failure::Kind::kOutOfMemory) throw;
      most_in_flight_ = 1;
      return nullptr;
    }
  }

  bool reserved(Lane& lane, size_t rows) {
    try {
      PieceMemory memory = operation_.memory(rows);
      lane.reserve(memory.host_bytes, memory.device_bytes);
      return true;
    } catch (const Failure& failure) {
      if (failure.kind != Failure::Kind::kOutOfMemory) throw;
      failure_ = failure.what();
      return false;
    }
  }

  // After a failed reserve with nothing in flight: first the memory that nobody uses, then less at a time.
  void make_room() {
    most_in_flight_ = 1;
    idle_.resize(1);
    if (!released_) {
      released_ = true;
      pool_.release_idle();
    } else if (rows_ > 1) {
      rows_ = (rows_ + 1) / 2;
    } else {
      throw Failure(Failure::Kind::kOutOfMemory, failure_ + " for a single row");
    }
  }

  void reserve_first(Lane& lane) {
    if (reserved(lane, 1)) return;
    pool_.release_idle();
    if (!reserved(lane, 1)) throw Failure(Failure::Kind::kOutOfMemory, failure_ + " for a single row");
  }

  RowOperation& operation_;
  LanePool& pool_;
  const std::function<bool()>& go_on_;
  size_t rows_;
  size_t most_in_flight_ = kPiecesInFlight;
  bool released_ = false;
  std::string failure_;
  // The pieces last: their lanes are idle before they go back, whatever was thrown.
  std::deque<std::unique_ptr<LanePool::Lease>> idle_;
  std::deque<Piece> pieces_;
};

}  // namespace

void stream_rows(RowOperation& operation, int device, const std::function<bool()>& go_on) {
  if (operation.count() == 0) return;
  on_device(device, [&] { RowStream(operation, device, go_on).run(); });
}

}  // namespace rvq::cuda
