// SPDX-License-Identifier: CC0-1.0
// Reads rows of a CSV file, evaluates the bundle `score` on several threads and writes, for each row in order, the
// prediction, its sensitivity to each input and its curvature along each input.
//
//     service rows.csv [threads]
//
// Every worker has a workspace of its own and takes batches of rows from a counter; the generated code has no state, so
// nothing else is shared. The output is the same text for any number of threads.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "score.h"
#include "score_weights.h"

namespace {

constexpr std::size_t inputs = 10;
constexpr std::size_t batch = 16;

struct Rows {
    std::vector<double> x, score, slope, bend;
    std::size_t count = 0;
};

// One worker: its own memory, made once.
class Worker {
public:
    Worker()
        : work_(std::max({SCORE_VALUE_WORKSPACE_BYTES(batch, 1), SCORE_GRADIENT_WORKSPACE_BYTES(batch, 1),
              SCORE_DIAGONAL_WORKSPACE_BYTES(batch, 1)}))
    {
    }

    // Evaluate rows [first, first + count); throws std::runtime_error with the status if an argument is refused.
    void evaluate(Rows &rows, std::size_t first, std::size_t count)
    {
        score_value_args value = {};
        value.c = score_c;
        value.out_rows = rows.score.data() + first;
        run(value, rows, first, count, score_value_run);
        score_gradient_args gradient = {};
        gradient.c = score_c;
        gradient.out_grad_x = rows.slope.data() + first * inputs;
        run(gradient, rows, first, count, score_gradient_run);
        score_diagonal_args diagonal = {};
        diagonal.out_diag_x = rows.bend.data() + first * inputs;
        run(diagonal, rows, first, count, score_diagonal_run);
    }

private:
    template <class Args, class Run>
    void run(Args &args, const Rows &rows, std::size_t first, std::size_t count, Run function)
    {
        args.x = rows.x.data() + first * inputs;
        args.W = score_W;
        args.b = score_b;
        args.v = score_v;
        args.n_rows = static_cast<std::int64_t>(count);
        args.threads = 1;
        const std::int32_t status = function(&args, work_.data(), work_.size());
        if (status != 0) {
            throw std::runtime_error("the model refused its arguments, status " + std::to_string(status));
        }
    }

    std::vector<unsigned char> work_;
};

Rows read(const char *path)
{
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error(std::string("cannot read ") + path);
    }
    Rows rows;
    std::string line;
    while (std::getline(file, line)) {
        std::istringstream cells(line);
        std::string cell;
        std::size_t found = 0;
        while (std::getline(cells, cell, ',')) {
            char *end = nullptr;
            const double number = std::strtod(cell.c_str(), &end);
            const bool whole = end != cell.c_str() && std::string(end).find_first_not_of(" \t\r") == std::string::npos;
            if (!whole || !std::isfinite(number)) {
                throw std::runtime_error("line " + std::to_string(rows.count + 1) + ": '" + cell + "' is not a number");
            }
            rows.x.push_back(number);
            ++found;
        }
        if (found != inputs) {
            throw std::runtime_error("line " + std::to_string(rows.count + 1) + " has " + std::to_string(found)
                + " numbers, expected " + std::to_string(inputs));
        }
        ++rows.count;
    }
    rows.score.resize(rows.count);
    rows.slope.resize(rows.count * inputs);
    rows.bend.resize(rows.count * inputs);
    return rows;
}

void evaluate(Rows &rows, unsigned threads)
{
    std::atomic<std::size_t> next{0};
    std::vector<std::exception_ptr> failed(threads);
    std::vector<std::thread> team;
    for (unsigned k = 0; k < threads; ++k) {
        team.emplace_back([&rows, &next, &failed, k] {
            try {
                Worker worker;
                for (std::size_t first = next.fetch_add(batch); first < rows.count; first = next.fetch_add(batch)) {
                    worker.evaluate(rows, first, std::min(batch, rows.count - first));
                }
            } catch (...) {
                failed[k] = std::current_exception();
            }
        });
    }
    for (std::thread &thread : team) {
        thread.join();
    }
    for (const std::exception_ptr &problem : failed) {
        if (problem) {
            std::rethrow_exception(problem);
        }
    }
}

} // namespace

int main(int count, char **arguments)
{
    if (count < 2) {
        std::cerr << "usage: service rows.csv [threads]\n";
        return 2;
    }
    try {
        const int threads = count > 2 ? std::atoi(arguments[2]) : static_cast<int>(std::thread::hardware_concurrency());
        if (threads < 1 || threads > 256) {
            throw std::runtime_error("threads must be between 1 and 256");
        }
        Rows rows = read(arguments[1]);
        evaluate(rows, static_cast<unsigned>(threads));
        for (std::size_t row = 0; row < rows.count; ++row) {
            std::printf("%.17g", rows.score[row]);
            for (const std::vector<double> *part : {&rows.slope, &rows.bend}) {
                for (std::size_t i = 0; i < inputs; ++i) {
                    std::printf(",%.17g", (*part)[row * inputs + i]);
                }
            }
            std::printf("\n");
        }
    } catch (const std::exception &problem) {
        std::cerr << "service: " << problem.what() << '\n';
        return 1;
    }
    return 0;
}
