// Enough of CUDA to run a kernel on the host. The threads of a block are fibers: each runs until it meets a barrier or
// its end, and all have to get there before any goes on. Between barriers they run in random order, so that a kernel
// which lacks a barrier gives results that depend on the seed.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // one block at a time
#define __launch_bounds__(n)

struct Place { unsigned x, y; };
struct Fiber { ucontext_t context; std::vector<char> stack; Place place; bool done; };
static Place gridDim, blockDim, blockIdx, threadIdx;
static ucontext_t scheduler;
static Fiber *running;
static std::function<void()> kernel_body;

static void __syncthreads() {
    swapcontext(&running->context, &scheduler);
}

static void enter() {
    kernel_body();
    running->done = true;
}

// The number of barriers that only some threads of a block met.
static int emulate(const unsigned *shape, unsigned seed, std::function<void()> body) {
    std::mt19937 random(seed);
    kernel_body = body;
    gridDim = {shape[0], shape[1]};
    blockDim = {shape[2], shape[3]};
    std::vector<Fiber> fibers(blockDim.x * blockDim.y);
    for (auto &fiber : fibers) fiber.stack.resize(1 << 16);
    int divergent = 0;
    for (unsigned block = 0; block < gridDim.x * gridDim.y; block++) {
        blockIdx = {block % gridDim.x, block / gridDim.x};
        std::vector<Fiber *> alive;
        for (unsigned k = 0; k < fibers.size(); k++) {
            Fiber &fiber = fibers[k];
            fiber.place = {k % blockDim.x, k / blockDim.x};
            fiber.done = false;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = fiber.stack.size();
            fiber.context.uc_link = &scheduler;
            makecontext(&fiber.context, enter, 0);
            alive.push_back(&fiber);
        }
        while (!alive.empty()) {
            std::shuffle(alive.begin(), alive.end(), random);
            for (Fiber *fiber : alive) {
                running = fiber;
                threadIdx = fiber->place;
                swapcontext(&scheduler, &fiber->context);
            }
            const auto before = alive.size();
            alive.erase(std::remove_if(alive.begin(), alive.end(), [](Fiber *f) { return f->done; }), alive.end());
            divergent += !alive.empty() && alive.size() < before;
        }
    }
    return divergent;
}
