/* A foreign program: outputs, loss and gradient of a tanh network, in C and nothing else.
 *
 *   cc -O2 -o mlp mlp.c -lm
 *   ./mlp CASE.safetensors RESULT.safetensors (gaussian VARIANCE | categorical 1) SIZE SIZE ...
 *
 * It reads input.theta, input.x and input.y of a test vector and writes outputs, loss and gradient, which
 * `grng-ref check --results` compares. run.py takes the settings from the manifest. The machine must be little endian;
 * memory goes back when the program ends.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LAYERS 16

static void stop(const char *why)
{
    fprintf(stderr, "mlp: %s\n", why);
    exit(1);
}

static void *memory(size_t count, size_t size)
{
    void *found = calloc(count ? count : 1, size);
    if (!found) stop("out of memory");
    return found;
}

/* A safetensors file: the length of the header in 8 bytes, the header (JSON), the numbers. */
typedef struct {
    char *header, *numbers;
    size_t size;
} Stored;

static Stored load(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t length;
    long whole;
    Stored s;
    if (!file) stop("cannot open the case");
    if (fseek(file, 0, SEEK_END) || (whole = ftell(file)) < 8) stop("no safetensors file");
    rewind(file);
    if (fread(&length, 8, 1, file) != 1 || length > (uint64_t)whole - 8) stop("no safetensors file");
    s.size = (size_t)whole - 8 - length;
    s.header = memory(length + 1, 1);
    s.numbers = memory(s.size, 1);
    if (fread(s.header, 1, length, file) != length || fread(s.numbers, 1, s.size, file) != s.size)
        stop("the file is cut short");
    fclose(file);
    return s;
}

/* The numbers of a tensor, of type "F64" or "I64" (8 bytes both), and how many there are. */
static void *tensor(Stored s, const char *name, const char *type, size_t *count)
{
    char key[64], wanted[32];
    const char *entry, *offsets, *end;
    unsigned long long from, to;
    snprintf(key, sizeof key, "\"%s\":{", name);
    snprintf(wanted, sizeof wanted, "\"dtype\":\"%s\"", type);
    entry = strstr(s.header, key);
    end = entry ? strchr(entry, '}') : NULL;
    offsets = entry ? strstr(entry, "\"data_offsets\":[") : NULL;
    if (!end || !offsets || offsets > end) stop("a tensor is missing");
    if (!strstr(entry, wanted) || strstr(entry, wanted) > end) stop("a tensor has another type");
    if (sscanf(offsets, "\"data_offsets\":[%llu,%llu]", &from, &to) != 2 || from > to || to > s.size)
        stop("a tensor lies outside of the file");
    *count = (size_t)(to - from) / 8;
    void *numbers = memory(*count, 8);
    memcpy(numbers, s.numbers + from, *count * 8);
    return numbers;
}

static void save(const char *path, const double *f, size_t n, size_t k, double loss, const double *g, size_t p)
{
    char header[512];
    size_t first = 8 * n * k, second = first + 8, third = second + 8 * p;
    uint64_t length;
    FILE *file = fopen(path, "wb");
    if (!file) stop("cannot write the result");
    snprintf(header, sizeof header,
             "{\"outputs\":{\"dtype\":\"F64\",\"shape\":[%zu,%zu],\"data_offsets\":[0,%zu]},"
             "\"loss\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[%zu,%zu]},"
             "\"gradient\":{\"dtype\":\"F64\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
             n, k, first, first, second, p, second, third);
    while (strlen(header) % 8) strcat(header, " "); /* the numbers start at a multiple of 8 */
    length = strlen(header);
    if (fwrite(&length, 8, 1, file) != 1 || fwrite(header, 1, length, file) != length ||
        fwrite(f, 8, n * k, file) != n * k || fwrite(&loss, 8, 1, file) != 1 || fwrite(g, 8, p, file) != p ||
        fclose(file))
        stop("cannot write the result");
}

int main(int argc, char **argv)
{
    if (argc < 7) stop("give CASE RESULT LIKELIHOOD VARIANCE SIZE SIZE ...");
    int layers = argc - 6, categorical = !strcmp(argv[3], "categorical");
    double variance = atof(argv[4]), loss = 0.0;
    size_t size[MOST_LAYERS + 1], start[MOST_LAYERS + 1] = {0}, p, count, widest = 0;
    if (layers > MOST_LAYERS) stop("too many layers");
    if (!categorical && strcmp(argv[3], "gaussian")) stop("the likelihood must be gaussian or categorical");
    for (int l = 0; l <= layers; l++) {
        size[l] = strtoul(argv[5 + l], NULL, 10);
        if (size[l] > widest) widest = size[l];
        if (l) start[l] = start[l - 1] + size[l] * (size[l - 1] + 1); /* [W | b], row by row, bias last */
    }
    Stored s = load(argv[1]);
    double *theta = tensor(s, "input.theta", "F64", &p);
    double *x = tensor(s, "input.x", "F64", &count);
    size_t n = count / size[0], k = size[layers];
    void *y = tensor(s, "input.y", categorical ? "I64" : "F64", &count);
    if (p != start[layers] || n == 0 || count != (categorical ? n : n * k)) stop("the sizes do not fit");

    double *f = memory(n * k, sizeof(double)), *g = memory(p, sizeof(double)), *a[MOST_LAYERS + 1];
    double *delta = memory(widest, sizeof(double)), *below = memory(widest, sizeof(double));
    for (int l = 0; l <= layers; l++) a[l] = memory(size[l], sizeof(double));
    double mean = 1.0 / (double)n;

    for (size_t i = 0; i < n; i++) {
        memcpy(a[0], x + i * size[0], size[0] * sizeof(double));
        for (int l = 0; l < layers; l++)
            for (size_t r = 0; r < size[l + 1]; r++) {
                const double *row = theta + start[l] + r * (size[l] + 1);
                double sum = row[size[l]];
                for (size_t c = 0; c < size[l]; c++) sum += row[c] * a[l][c];
                a[l + 1][r] = l + 1 < layers ? tanh(sum) : sum;
            }
        memcpy(f + i * k, a[layers], k * sizeof(double));

        if (categorical) { /* -log softmax(f)_label, with the largest output taken out */
            int64_t label = ((int64_t *)y)[i];
            size_t top = 0;
            double rest = 0.0;
            if (label < 0 || (size_t)label >= k) stop("a label is no class");
            for (size_t j = 1; j < k; j++)
                if (a[layers][j] > a[layers][top]) top = j;
            for (size_t j = 0; j < k; j++)
                if (j != top) rest += exp(a[layers][j] - a[layers][top]);
            loss += mean * (a[layers][top] - a[layers][label] + log1p(rest));
            double others = 0.0; /* minus the gradient at the label, without 1 - p */
            for (size_t j = 0; j < k; j++) {
                delta[j] = exp(a[layers][j] - a[layers][top]) / (1.0 + rest);
                if (j != (size_t)label) others += delta[j];
            }
            delta[label] = -others;
        } else {
            for (size_t j = 0; j < k; j++) {
                double error = a[layers][j] - ((double *)y)[i * k + j];
                loss += mean * error * error / (2.0 * variance);
                delta[j] = error / variance;
            }
        }

        for (int l = layers - 1; l >= 0; l--) {
            memset(below, 0, widest * sizeof(double));
            for (size_t r = 0; r < size[l + 1]; r++) {
                size_t place = start[l] + r * (size[l] + 1);
                for (size_t c = 0; c < size[l]; c++) {
                    g[place + c] += mean * delta[r] * a[l][c];
                    below[c] += theta[place + c] * delta[r];
                }
                g[place + size[l]] += mean * delta[r];
            }
            for (size_t c = 0; c < size[l]; c++) delta[c] = below[c] * (1.0 - a[l][c] * a[l][c]);
        }
    }
    save(argv[2], f, n, k, loss, g, p);
    return 0;
}
