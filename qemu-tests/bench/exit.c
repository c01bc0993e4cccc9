// What the benchmark executes: a C library's start and end, nothing between them.
int main(void) {
    return 0;
}
