import CoreML
import ImageIO
import XCTest

@testable import MobileViT

/// A classifier (MVIT_MODEL) and the fixture that examples/fixtures/make.py made of it (MVIT_FIXTURE, a folder).
final class FixtureTests: XCTestCase {
    struct Fixture: Decodable {
        let photo: Picture
        let pixels: Picture
        let labels: [String]
        let expected: [Expected]
        let tolerance: Tolerance
    }

    struct Picture: Decodable {
        let name: String
        let width: Int
        let height: Int
    }

    struct Expected: Decodable {
        let label: String
        let probability: Double
    }

    struct Tolerance: Decodable {
        let pixels_mean: Double
        let probability: Double
    }

    private var folder: URL!
    private var fixture: Fixture!
    private var model: PhotoModel!

    override func setUp() async throws {
        let environment = ProcessInfo.processInfo.environment
        folder = try URL(fileURLWithPath: XCTUnwrap(environment["MVIT_FIXTURE"]))
        fixture = try JSONDecoder().decode(
            Fixture.self, from: Data(contentsOf: folder.appendingPathComponent("fixture.json"))
        )
        let file = try URL(fileURLWithPath: XCTUnwrap(environment["MVIT_MODEL"]))
        let compiled = try await MLModel.compileModel(at: file)
        model = try PhotoModel(contentsOf: compiled)
    }

    func testSizeAndLabelsAreThoseOfTheFile() throws {
        XCTAssertEqual([model.width, model.height], [fixture.pixels.width, fixture.pixels.height])
        XCTAssertEqual(model.model.modelDescription.classLabels as? [String], fixture.labels)
    }

    func testTheCropIsTheExpectedOne() throws {
        let found = try bytes(of: model.crop(picture(fixture.photo)))
        let expected = try bytes(of: picture(fixture.pixels))

        let apart = zip(found, expected).enumerated().filter { $0.offset % 4 < 3 }.map {
            abs(Int($0.element.0) - Int($0.element.1))
        }
        XCTAssertLessThanOrEqual(Double(apart.reduce(0, +)) / Double(apart.count), fixture.tolerance.pixels_mean)
    }

    func testTheExpectedPixelsGiveTheExpectedClasses() throws {
        let found = try model.classify(picture(fixture.pixels))

        XCTAssertEqual(found.count, fixture.labels.count)
        for expected in fixture.expected {
            let guess = try XCTUnwrap(found.first { $0.identifier == expected.label })
            XCTAssertEqual(Double(guess.confidence), expected.probability, accuracy: fixture.tolerance.probability)
        }
    }

    private func picture(_ picture: Picture) throws -> CGImage {
        let url = folder.appendingPathComponent(picture.name) as CFURL
        let source = try XCTUnwrap(CGImageSourceCreateWithURL(url, nil))
        return try XCTUnwrap(CGImageSourceCreateImageAtIndex(source, 0, nil))
    }

    /// Red, green, blue and a byte that means nothing, for each pixel.
    private func bytes(of image: CGImage) throws -> [UInt8] {
        let space = try XCTUnwrap(CGColorSpace(name: CGColorSpace.sRGB))
        let context = try XCTUnwrap(CGContext(
            data: nil, width: image.width, height: image.height, bitsPerComponent: 8, bytesPerRow: 4 * image.width,
            space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
        ))
        context.draw(image, in: CGRect(x: 0, y: 0, width: image.width, height: image.height))
        let data = try XCTUnwrap(context.data)
        return withExtendedLifetime(context) {
            [UInt8](UnsafeRawBufferPointer(start: data, count: 4 * image.width * image.height))
        }
    }
}
